"""What a recursive model must beat: rules, trees, boosting and a small convolutional net."""
