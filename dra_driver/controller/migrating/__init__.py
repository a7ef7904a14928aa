"""Pods written for HAMi: pointed at claim templates in admission, and the templates made and removed for them."""
