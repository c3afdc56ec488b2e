"""`python -m roberta` is the `roberta` command."""

import sys

from roberta.cli import main

sys.exit(main())
