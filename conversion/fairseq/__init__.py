"""fairseq's `model.pt` and `dict.txt`: read in every spelling they have had, and written."""
