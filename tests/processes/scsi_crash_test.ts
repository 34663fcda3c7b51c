import { assert } from "@std/assert";
import { ChildProcess } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { BLOCK, CompareGuest } from "./scsi_crash.ts";

const BLOCKS = 48, KILLS = 12;

for (const kind of ["split", "packed"] as const) {
  Deno.test(`COMPARE AND WRITE is never done twice, over ${KILLS} kills, ${kind} ring`, async () => {
    using directory = TemporaryDirectory.make("crash");
    const image = directory.file("disk.img"), socket = directory.file("sock");
    Deno.writeFileSync(image, new Uint8Array(BLOCKS * BLOCK));
    // Not past the page cache: each block is 512 bytes.
    const serve = () =>
      ChildProcess.start(Deno.execPath(), {
        name: "vhostd",
        args: [
          ...COMMAND_ARGUMENTS,
          "serve",
          "--supervise=off",
          "--management=off",
          "--log-level=error",
          `--scsi=path=${image},socket=${socket},engine=io_uring`,
        ],
      });
    using guest = new CompareGuest(BLOCKS, kind === "packed");
    let kills = 0, met = 0;
    for (; met < KILLS; kills++) {
      assert(kills < 4 * KILLS, "too few kills met commands in flight");
      await using server = serve();
      await guest.connect(socket);
      // Some die at once; others have served for a while.
      const goal = guest.done + (kills % 4) * BLOCKS;
      const aborted = guest.aborted;
      const end = performance.now() + 20_000;
      do {
        guest.turn();
        await new Promise((resolve) => setTimeout(resolve));
        assert(performance.now() < end, "nothing is answered");
      } while (guest.done < goal);
      guest.turn();
      Deno.kill(server.pid, "SIGKILL");
      await server.status;
      if (guest.aborted > aborted) met++;
    }
    await using server = serve();
    await guest.connect(socket);
    await guest.finish();
    await server.stop();
    guest.check(Deno.readFileSync(image));
    assert(guest.attentions >= kills);
    console.log(
      `${kills} kills; ${guest.done} done, ${guest.aborted} aborted, of which ` +
        `${guest.abortedAndDone} had been done`,
    );
  });
}
