"""Values of text: conversions in the spelling that needs no setting, in those that settings say, and which setting seems to be missing."""
