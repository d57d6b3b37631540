"""What the user's YAML files say, validated: spaces, studies, recipes."""
