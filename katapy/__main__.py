"""`python -m katapy`: the command line, for a checkout without its launcher."""

from katapy.cli.main import main

raise SystemExit(main())
