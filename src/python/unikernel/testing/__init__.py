"""What tests share. No part of the toolkit: nothing here is imported by it."""
