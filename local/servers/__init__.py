"""The servers that the suite needs, each as a child process with its own data folder and port."""
