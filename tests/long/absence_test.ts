import { assertEquals } from "@std/assert";
import { makeImage, vhostUserBlk } from "../guest/disks.ts";
import { startLinuxGuest } from "../guest/rig/linux_guest.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { startVhostd } from "../support/vhostd.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

/** How long the server is away, in ms: that is what is tested. */
const ABSENCE = 5 * 60_000;

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
  guests.test(`Linux: a server that ends by ${signal} stays away for five minutes`, async () => {
    using directory = TemporaryDirectory.make("absence");
    const image = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    makeImage(image, 64 << 20);
    let server = await startVhostd({ image, socket });
    try {
      await using guest = await startLinuxGuest({
        devices: vhostUserBlk(socket, "", 200),
      });
      await guest.check(
        ": > /tmp/rounds; dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; " +
          "(while dd if=/tmp/data of=/dev/vda bs=64k oflag=direct 2>/dev/null; " +
          "do echo >> /tmp/rounds; [ -e /tmp/stop ] && break; done; " +
          "echo $? > /tmp/finished) > /dev/null 2>&1 &",
      );
      const rounds = async () =>
        Number(await guest.check("wc -l < /tmp/rounds"));
      const goOn = (than: number) =>
        guest.check(
          `i=0; while [ $(wc -l < /tmp/rounds) -le ${than} ] && [ $i -lt 600 ]; ` +
            `do sleep 0.1; i=$((i+1)); done; [ $(wc -l < /tmp/rounds) -gt ${than} ]`,
          90_000,
        );
      await goOn(1);
      await server.stop(signal);
      await new Promise((resolve) => setTimeout(resolve, ABSENCE));
      const before = await rounds();
      server = await startVhostd({ image, socket });
      await goOn(before + 1);
      await guest.check(
        "echo > /tmp/stop; i=0; while [ ! -e /tmp/finished ] && [ $i -lt 600 ]; " +
          "do sleep 0.1; i=$((i+1)); done; [ -e /tmp/finished ]",
        90_000,
      );
      await guest.check("cmp -n 8388608 /tmp/data /dev/vda");
      assertEquals(
        await guest.check("dmesg | grep -c 'I/O error' || true"),
        "0",
      );
      assertEquals(await guest.powerOff(), 0);
    } finally {
      await server.stop();
    }
  });
}
