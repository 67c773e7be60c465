"""What runs inside worker processes. Nothing here is trusted by the judge, nor knows its secrets."""
