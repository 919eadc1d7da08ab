"""What every trainer needs, whatever it trains."""
