"""What a user of transformers 4.57 can call and read, beside ours: recorded, compared, each difference with a reason."""
