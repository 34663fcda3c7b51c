import { assert, assertEquals } from "@std/assert";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { runLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");
const ROOT = new URL("../../", import.meta.url).pathname;

guests.test("Linux reads random bytes from the example device", async () => {
  using directory = TemporaryDirectory.make("rng");
  const socket = directory.file("rng.sock");
  await using server = ChildProcess.start(Deno.execPath(), {
    name: "entropy",
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${ROOT}deno.json`],
      ...[`${ROOT}docs/examples/entropy.ts`, socket],
    ],
  });
  await waitForListener(socket, server);
  const result = await runLinuxGuest({
    devices: [
      ...["-chardev", `socket,id=r0,path=${socket}`],
      ...["-device", "vhost-user-rng-pci,chardev=r0"],
    ],
    script: `
      say DEVICE $(cat /sys/class/misc/hw_random/rng_current)
      dd if=/dev/hwrng of=/tmp/a bs=4096 count=4 2>/dev/null
      dd if=/dev/hwrng of=/tmp/b bs=4096 count=4 2>/dev/null
      say BYTES $(cat /tmp/a /tmp/b | wc -c)
      if cmp -s /tmp/a /tmp/b; then fail "twice the same bytes"; fi
      say ZEROES $(tr -d -c '\\0' < /tmp/a | wc -c)
    `,
  });
  assertEquals(result.values.DEVICE, "virtio_rng.0");
  assertEquals(result.values.BYTES, "32768");
  // One byte in 256 is zero: 64 expected, 200 as good as impossible.
  assert(Number(result.values.ZEROES) < 200);
  assertEquals((await server.stop("SIGTERM")).code, 0);
});
