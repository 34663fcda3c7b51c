import { CrashingNet, killNet } from "./net_crash.ts";

for (
  const [name, eventIdx, inOrder] of [
    ["event-idx", true, false],
    ["no event-idx, in order", false, true],
  ] as const
) {
  Deno.test(`a network device with packed rings is killed 100 times: ${name}`, async () => {
    console.log(await killNet({ seed: 0x5eed_1234, eventIdx, inOrder }, 100));
  });
}

Deno.test("rings that were set up again while nobody served them begin anew", async () => {
  for (const eventIdx of [false, true]) {
    await using net = await CrashingNet.start({
      seed: 77,
      eventIdx,
      inOrder: false,
    });
    for (let i = 0; i < 3; i++) {
      await net.progress(150);
      await net.kill();
      // At the same place, of the same size: only that it was cleared tells.
      net.resetRings();
      await net.connect();
    }
    await net.finish();
  }
});
