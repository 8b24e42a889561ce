"""Booting images under a virtual machine monitor."""
