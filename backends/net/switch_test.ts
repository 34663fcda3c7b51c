import { assert, assertEquals } from "@std/assert";
import { featureMask } from "../../virtqueue/constants.ts";
import { DELIVERED } from "./backend.ts";
import { Frame } from "./frame.ts";
import { NetFeature } from "./protocol.ts";
import { Switch, type SwitchMember } from "./switch.ts";
import { EVERYTHING, NetBench } from "./testing/bench.ts";
import {
  ALICE,
  BOB,
  BROADCAST,
  packet,
  partialHeader,
  sumsHold,
} from "./testing/packets.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const CAROL = [2, 0, 0, 0, 0, 0xc];

/** Something on a switch that writes down what it gets. */
class Station implements SwitchMember, Disposable {
  readonly label: string;
  readonly got: string[] = [];
  readonly #frame = new Frame(1, 64);

  constructor(label: string) {
    this.label = label;
  }

  accept(frame: Frame): number {
    this.got.push(`${frame.start[5]}<${frame.start[11]}`);
    return DELIVERED;
  }

  /** A frame between addresses of which only the last byte differs. */
  frame(to: number, from: number, group = false): Frame {
    const frame = this.#frame;
    frame.bytes.fill(0);
    frame.bytes.set([group ? 3 : 2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
    frame.takeBytes(0, 60);
    return frame;
  }

  [Symbol.dispose](): void {
    this.#frame[Symbol.dispose]();
  }
}

ringTest("a switch floods what it does not know, and learns", () => {
  using a = new Station("a");
  using b = new Station("b");
  using c = new Station("c");
  let now = 0;
  const lan = new Switch("test", () => now, 1000);
  const [pa, pb, pc] = [a, b, c].map((station) => lan.connect(station));
  const got = () => [a, b, c].map((station) => station.got.splice(0).join());
  lan.forward(pa, a.frame(2, 1), 0);
  assertEquals(got(), ["", "2<1", "2<1"]);
  lan.forward(pb, b.frame(1, 2), 0);
  assertEquals(got(), ["1<2", "", ""]);
  lan.forward(pa, a.frame(2, 1), 0);
  assertEquals(got(), ["", "2<1", ""]);
  // Groups go everywhere, also when one claims to be a station.
  lan.forward(pb, b.frame(2, 2, true), 0);
  assertEquals(got(), ["2<2", "", "2<2"]);
  // Behind the same port.
  lan.forward(pa, a.frame(1, 9), 0);
  assertEquals(got(), ["", "", ""]);
  assertEquals(pa.local, 1);
  // Bob moves to another port.
  lan.forward(pc, c.frame(1, 2), 0);
  lan.forward(pa, a.frame(2, 1), 0);
  assertEquals(got(), ["1<2", "", "2<1"]);
  // Ageing: the clock is looked at now and then.
  now = 1001;
  lan.status();
  lan.forward(pa, a.frame(2, 1), 0);
  assertEquals(got(), ["", "2<1", "2<1"]);
  lan.disconnect(pc);
  lan.forward(pa, a.frame(7, 1), 0);
  assertEquals(got(), ["", "7<1", ""]);
  const { ports } = lan.status() as { ports: Record<string, unknown>[] };
  assertEquals(ports, [{
    port: 0,
    label: "a",
    received: 6,
    forwarded: 3,
    dropped: 0,
    flooded: 3,
    local: 1,
  }, {
    port: 1,
    label: "b",
    received: 2,
    forwarded: 4,
    dropped: 0,
    flooded: 1,
    local: 0,
  }]);
});

ringTest(
  "what a port remembers of its last frame does not outlive a change",
  () => {
    using a = new Station("a");
    using b = new Station("b");
    using c = new Station("c");
    let now = 0;
    const lan = new Switch("test", () => now, 1000);
    const [pa, pb, pc] = [a, b, c].map((station) => lan.connect(station));
    const got = () => [a, b, c].map((station) => station.got.splice(0).join());
    const again = () => {
      lan.forward(pa, a.frame(2, 1), 0);
      return got();
    };
    assertEquals(again(), ["", "2<1", "2<1"]);
    assertEquals(again(), ["", "2<1", "2<1"]);
    // Somebody is learnt.
    lan.forward(pb, b.frame(1, 2), 0);
    assertEquals(got(), ["1<2", "", ""]);
    assertEquals(again(), ["", "2<1", ""]);
    assertEquals(again(), ["", "2<1", ""]);
    // Another port says that it is the sender, then the sender sends again.
    lan.forward(pc, c.frame(2, 1), 0);
    got();
    assertEquals(again(), ["", "2<1", ""]);
    lan.forward(pb, b.frame(1, 2), 0);
    assertEquals(got(), ["1<2", "", ""]);
    // Time goes by: who sends goes on to be known, who is silent does not.
    for (now of [600, 1001]) {
      lan.status();
      again();
    }
    assertEquals(again(), ["", "2<1", "2<1"]);
    lan.forward(pb, b.frame(1, 3), 0);
    assertEquals(got(), ["1<3", "", ""]);
    // A port goes.
    lan.forward(pb, b.frame(1, 2), 0);
    assertEquals(got(), ["1<2", "", ""]);
    assertEquals(again(), ["", "2<1", ""]);
    lan.disconnect(pb);
    assertEquals(again(), ["", "", "2<1"]);
  },
);

ringTest("a port is used again, and what was behind it is forgotten", () => {
  using a = new Station("a");
  using b = new Station("b");
  const lan = new Switch("test", () => 0);
  const pa = lan.connect(a);
  const pb = lan.connect(b);
  lan.forward(pb, b.frame(1, 2), 0);
  lan.disconnect(pb);
  using c = new Station("c");
  assertEquals(lan.connect(c).index, pb.index);
  lan.forward(pa, a.frame(2, 1), 0);
  assertEquals(c.got, ["2<1"]);
  assertEquals((lan.status().addresses as unknown[]).length, 1);
});

ringTest("guests on a switch reach each other, and nobody else", () => {
  using alice = new NetBench({ backend: "switch", name: "lan" });
  using bob = new NetBench({ backend: "switch", name: "lan" });
  using carol = new NetBench({ backend: "switch", name: "lan" });
  using other = new NetBench({ backend: "switch", name: "other" });
  const all = [alice, bob, carol, other];
  for (const bench of all) {
    bench.fill(8);
    bench.run();
  }
  const got = () =>
    all.map((bench) => {
      bench.run();
      return bench.received().length;
    });
  alice.send(packet({ to: BROADCAST, from: ALICE }).bytes);
  assertEquals(got(), [0, 1, 1, 0]);
  bob.send(packet({ to: ALICE, from: BOB }).bytes);
  assertEquals(got(), [1, 0, 0, 0]);
  const sent = packet({ to: BOB, from: ALICE, payload: 1460 }).bytes;
  alice.send(sent);
  bob.run();
  assertEquals(bob.received()[0].bytes, sent);
  assertEquals(got(), [0, 0, 0, 0]);
  carol.send(packet({ to: CAROL, from: CAROL }).bytes);
  assertEquals(got(), [0, 0, 0, 0]);
  const status = alice.device.status() as {
    port: number;
    switch: { addresses: { mac: string; port: number }[] };
  };
  assertEquals(
    status.switch.addresses.map(({ mac, port }) => `${mac} ${port}`),
    [
      "02:00:00:00:00:0a 0",
      "02:00:00:00:00:0b 1",
      "02:00:00:00:00:0c 2",
    ],
  );
});

ringTest("a receiver without buffers loses frames; others do not wait", () => {
  using alice = new NetBench({ backend: "switch" });
  using bob = new NetBench({ backend: "switch" });
  using carol = new NetBench({ backend: "switch" });
  bob.fill(1);
  carol.fill(4);
  bob.run();
  carol.run();
  for (let i = 0; i < 4; i++) {
    assertEquals(
      alice.send(packet({ to: BROADCAST }).bytes).length,
      1,
      "given back at once",
    );
  }
  bob.run();
  carol.run();
  assertEquals([bob.received().length, carol.received().length], [1, 4]);
  assertEquals([bob.count("rxNoBuffer"), carol.count("rxNoBuffer")], [3, 0]);
  const { switch: lan } = alice.device.status() as {
    switch: { ports: { dropped: number; forwarded: number }[] };
  };
  assertEquals(
    lan.ports.map(({ forwarded, dropped }) => [forwarded, dropped]),
    [[0, 0], [1, 3], [4, 0]],
  );
});

ringTest(
  "large segments pass whole to those who take them, cut to others",
  () => {
    const { GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_CSUM } = NetFeature;
    using alice = new NetBench({ backend: "switch" });
    using takes = new NetBench({ backend: "switch" });
    using cuts = new NetBench({ backend: "switch" }, {
      features: EVERYTHING & ~featureMask(GUEST_TSO4, GUEST_TSO6, GUEST_UFO),
    });
    using plain = new NetBench({ backend: "switch" }, {
      features: EVERYTHING & ~featureMask(GUEST_CSUM),
    });
    const kinds = [
      { gsoType: 1, made: packet({ to: BROADCAST, payload: 5000 }) },
      {
        gsoType: 4,
        made: packet({ to: BROADCAST, payload: 5000, ipv6: true }),
      },
      { gsoType: 3, made: packet({ to: BROADCAST, payload: 4992, udp: true }) },
    ];
    for (const { gsoType, made } of kinds) {
      for (const bench of [takes, cuts, plain]) {
        bench.fill(8);
        bench.run();
      }
      alice.send(made.bytes, partialHeader(made, { gsoType, gsoSize: 1000 }));
      const [whole] = takes.received();
      assertEquals(whole.bytes, made.bytes);
      assertEquals([whole.header[0], whole.header[1]], [1, gsoType]);
      for (const bench of [cuts, plain]) {
        const pieces = bench.received();
        assertEquals(pieces.length, gsoType === 3 ? 5 : 5);
        for (const { bytes, header } of pieces) {
          assertEquals([header[0], header[1]], [0, 0]);
          if (gsoType !== 3) assert(sumsHold(bytes, made));
        }
      }
    }
  },
);

ringTest("a switch is forgotten with its last port", () => {
  {
    using alice = new NetBench({ backend: "switch", name: "gone" });
    alice.send(packet().bytes);
    assertEquals((Switch.named("gone").status().ports as unknown[]).length, 1);
  }
  assertEquals(Switch.named("gone").status().addresses, []);
});

ringTest("a link that is down takes a guest off the switch", () => {
  using alice = new NetBench({ backend: "switch" });
  using bob = new NetBench({ backend: "switch" });
  bob.fill(2);
  bob.run();
  bob.device.command("link", { up: false });
  alice.send(packet({ to: BROADCAST }).bytes);
  assertEquals([bob.received(), bob.count("rxLinkDown")], [[], 1]);
  bob.device.command("link", { up: true });
  alice.send(packet({ to: BROADCAST }).bytes);
  bob.run();
  assertEquals(bob.received().length, 1);
});
