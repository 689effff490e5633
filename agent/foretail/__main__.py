"""`python -m foretail` is `foretail`."""

import sys

from foretail.cli import main

sys.exit(main())
