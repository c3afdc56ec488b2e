"""What the `roberta` command adds to the library: options, files of texts, threads, and what it does not say."""
