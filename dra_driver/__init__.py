"""The Kubernetes side: what the node plugin and the commands around it do with the cards that `drivers` knows."""
