"""Tools of transport http, and the builtins http.*: what is asked, of whom, and how the answer is read."""
