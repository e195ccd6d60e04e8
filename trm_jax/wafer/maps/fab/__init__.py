"""Files as testers and inspection write them: a die a line, with its bin."""
