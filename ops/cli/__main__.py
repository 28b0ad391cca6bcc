"""`python -m ops.cli`: the command for processes that duework starts itself, wherever its script lies."""

from ops.cli.main import main

if __name__ == "__main__":
    main()
