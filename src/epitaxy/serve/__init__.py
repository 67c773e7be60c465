"""The MCP server: the desk's tools for a coding agent. `epitaxy mcp` starts it.

place.py     the working folder, outside of which no path leads
offered.py   the problems that whoever started the server offers, by the texts they had then
jobs.py      what takes long: one thing measured at a time
tools.py     the tools as typed methods; no word of the protocol
schema.py    records as the protocol's types
server.py    tools, resources and prompts on the official SDK
install.py   configuration of clients
"""
