"""The edge where the app file comes in: loading, checking, conversion to the model."""
