"""What is passed in to the engine (time, files, threads), and what touches asyncio."""
