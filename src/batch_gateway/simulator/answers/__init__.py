"""OpenAI-shaped answers, made from nothing but the request."""
