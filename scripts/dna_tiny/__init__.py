"""What makes and scores the demonstration models of DNA."""
