"""What a client tells its observers, in the forms that monitoring systems take."""
