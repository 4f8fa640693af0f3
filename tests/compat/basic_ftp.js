// Usage: MODULE HOST PORT plain|explicit|implicit VERSION PASV|EPSV USER PASSWORD DIRECTORY
const [module_, host, port, kind, version, verb, user, password, dir] = process.argv.slice(1);
const ftp = require(module_);
const transfer = require(module_ + "/dist/transfer");
const fs = require("fs");

(async () => {
  const client = new ftp.Client(10000);
  client.ftp.verbose = true;
  try {
    const secure = { plain: false, explicit: true, implicit: "implicit" }[kind];
    const only = { minVersion: `TLSv${version}`, maxVersion: `TLSv${version}`, rejectUnauthorized: false };
    await client.access({ host, port, user, password, secure, secureOptions: secure ? only : undefined });
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
