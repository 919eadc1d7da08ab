"""What of the pages is made from the program itself, and from figures that were drawn."""
