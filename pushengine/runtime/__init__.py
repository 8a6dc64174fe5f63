"""What is passed in to the engine (clock, files, threads), and helpers around asyncio."""
