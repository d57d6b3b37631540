"""Tables, figures and claims of "Rewrite the Stars", rerun."""
