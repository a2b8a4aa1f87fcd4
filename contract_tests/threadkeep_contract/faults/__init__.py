"""What happens to calls on their way: they are cancelled, their waits fail, connections are cut, clocks jump."""
