"""Linux as a library OS: a kernel, specialised and compiled once into a linkable kit, and the program that is PID 1 in an image."""
