"""Usage: HOST PASV|EPSV USER PASSWORD DIRECTORY"""

import asyncio
import logging
import sys

import aioftp

host, verb, user, password, directory = sys.argv[1:]
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(message)s")


async def main():
    client = aioftp.Client(socket_timeout=10, passive_commands=[verb.lower()])
    await client.connect(host)
    await client.login(user, password)
    async with client.upload_stream(f"{directory}/up.bin") as stream:
        with open("up.bin", "rb") as file:
            await stream.write(file.read())
    with open("down.bin", "wb") as file:
        async with client.download_stream(f"{directory}/down.bin") as stream:
            async for block in stream.iter_by_block():
                file.write(block)
    with open("listing", "w") as file:
        for path, _info in await client.list(f"{directory}/two", raw_command="LIST"):
            file.write(f"{path.name}\n")
    await client.quit()


asyncio.run(main())
