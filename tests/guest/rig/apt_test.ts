import { assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { chooseMirror, findProgram, megabytes, parseUris } from "./apt.ts";

Deno.test("parseUris: name, version with epoch, size", () => {
  const output = "'http://mirror.test/pool/q/qemu/x_11_amd64.deb' " +
    "qemu-system-x86_1%3a11.1.3+ds-1~bpo13+1_amd64.deb 10412345 SHA256:00\n" +
    "'http://mirror.test/pool/m/mail/y.deb' y_0.1_all.deb 7 SHA256:11\n";
  assertEquals(parseUris(output), [
    {
      name: "qemu-system-x86",
      version: "1:11.1.3+ds-1~bpo13+1",
      size: 10_412_345,
    },
    { name: "y", version: "0.1", size: 7 },
  ]);
  assertEquals(parseUris("E: Unable to locate package\n"), []);
});

Deno.test("chooseMirror: the archive, not security nor a third party", () => {
  const line = (archive: string, suite: string) =>
    `'http://${archive}/dists/${suite}/InRelease' ${archive}_${suite} 0 \n` +
    `'http://${archive}/dists/${suite}/main/Packages.xz' packages 0 \n`;
  const sources = line("security.test/debian-security", "trixie-security") +
    line("third.test/node", "nodistro") +
    line("mirror.test/debian", "trixie-updates") +
    line("other.test/debian", "trixie");
  assertEquals(chooseMirror(sources), "http://mirror.test/debian/");
  assertEquals(chooseMirror(line("third.test/ubuntu", "noble")), null);
  assertEquals(chooseMirror(""), null);
});

Deno.test("megabytes is for people", () => {
  assertEquals(megabytes(10_412_345), "10.4 MB");
  assertEquals(megabytes(33_001), "34 kB");
});

Deno.test("findProgram looks at executable files in PATH", () => {
  using directory = TemporaryDirectory.make("apt");
  Deno.writeTextFileSync(directory.file("tool"), "");
  const path = `/nonexistent:${directory.path}`;
  assertEquals(findProgram("tool", path), null);
  Deno.chmodSync(directory.file("tool"), 0o755);
  assertEquals(findProgram("tool", path), directory.file("tool"));
  assertEquals(findProgram("other", path), null);
});

Deno.test("a system without apt is told what to install", async () => {
  const { stdout } = await runCommand(Deno.execPath(), {
    args: [
      "eval",
      `import { requireApt } from "${import.meta.resolve("./apt.ts")}";
       try { requireApt(); } catch (error) {
         console.log(error.kind, error.message);
       }`,
    ],
    env: { PATH: "/nonexistent" },
    cwd: new URL("../../..", import.meta.url).pathname,
  });
  assertStringIncludes(stdout, "platform Cannot fetch the guests' packages");
  assertStringIncludes(
    stdout,
    "no apt-get, no apt-config, no dpkg-deb, no tar",
  );
  assertStringIncludes(stdout, "VHOSTD_DEBIAN_MIRROR");
});
