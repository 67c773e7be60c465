"""What runs inside worker processes: it knows none of the judge's secrets."""
