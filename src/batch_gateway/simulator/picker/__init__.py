"""A simulated endpoint picker: GAIE's ext_proc service in front of several simulated pods."""
