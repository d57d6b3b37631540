"""What is known of networks' accuracy: observations of any task, and the posterior of one."""
