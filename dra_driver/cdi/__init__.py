"""CDI (Container Device Interface): how a container gets what its shares need, without a change to its image."""
