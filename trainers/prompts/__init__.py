"""Prompts: what is learned, pools of hard ones, and the gate that picks among them."""
