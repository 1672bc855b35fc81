"""What the server and the worker must agree on, and the command line `amends`."""
