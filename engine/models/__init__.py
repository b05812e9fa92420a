"""Language models behind the Model port: endpoints, frameworks' event streams, and labelled test models."""
