// Usage: MODULE HOST PASV|EPSV USER PASSWORD DIRECTORY
const [module_, host, verb, user, password, dir] = process.argv.slice(1);
const ftp = require(module_);
const transfer = require(module_ + "/dist/transfer");
const fs = require("fs");

(async () => {
  const client = new ftp.Client(10000);
  client.ftp.verbose = true;
  try {
    await client.access({ host, user, password });
    // Left alone it tries EPSV first, and PASV if that fails.
    if (verb === "PASV") client.prepareTransfer = transfer.enterPassiveModeIPv4;
    await client.uploadFrom("up.bin", dir + "/up.bin");
    await client.downloadTo("down.bin", dir + "/down.bin");
    const names = (await client.list(dir + "/two")).map((file) => file.name);
    fs.writeFileSync("listing", names.join("\n") + "\n");
  } catch (error) {
    console.log(String(error));
    process.exitCode = 1;
  }
  client.close();
})();
