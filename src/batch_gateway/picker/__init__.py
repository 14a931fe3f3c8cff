"""A gateway that is asked over gRPC which pod a request goes to: GAIE's endpoint picker."""
