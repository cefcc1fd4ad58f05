#!/usr/bin/env python3
"""Write the seeds of fuzz_mavlink into corpus/fuzz_mavlink.

Pieces of a real log, and frames made by hand for what the log has not: MAVLink
2 cut short and signed, status texts in chunks, sentinels, a wrap of the boot
time, unknown flags, truncation.  The first byte of a seed is the target's flags.

Run it after a change of the target's input form: python3 make_seeds.py
"""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, 'corpus', 'fuzz_mavlink')

CRC_EXTRA = {0: 50, 1: 124, 2: 137, 24: 24, 29: 115, 30: 39, 33: 104, 74: 20, 109: 185, 147: 154, 166: 21, 245: 130,
             253: 83}


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return struct.pack('<H', value)


def v1(message, payload, system=1, component=1):
    body = bytes([len(payload), 0, system, component, message]) + payload
    return b'\xfe' + body + crc(body + bytes([CRC_EXTRA.get(message, 0)]))


def v2(message, payload, system=1, component=1, flags=0):
    payload = payload.rstrip(b'\0') or b'\0'
    body = bytes([len(payload), flags, 0, 0, system, component]) + message.to_bytes(3, 'little') + payload
    signature = bytes(13) if flags & 1 else b''
    return b'\xfd' + body + crc(body + bytes([CRC_EXTRA.get(message, 0)])) + signature


def heartbeat(mode, type_=2, autopilot=3):
    return struct.pack('<IBBBBB', mode, type_, autopilot, 0xD1, 4, 3)


def position(boot_ms, heading=0xFFFF):
    return struct.pack('<IiiiihhhH', boot_ms, 473977418, 85455938, 488000, 12000, 120, -340, 15, heading)


def text(message, id_=0, chunk=0):
    return struct.pack('<B50sHB', 4, message, id_, chunk)


def stamped(frames, time_us=1700000000000000):
    return b''.join(struct.pack('>Q', time_us + 20000 * i) + frame for i, frame in enumerate(frames))


every = [
    v1(0, heartbeat(5)),
    v2(0, heartbeat(0x04040000, autopilot=12)),
    v1(0, heartbeat(0, 6, 8), system=255),
    v2(1, struct.pack('<IIIHHhHHHHHHb', 0, 0, 0, 500, 0xFFFF, -1, 0, 0, 0, 0, 0, 0, -1)),
    v1(2, struct.pack('<QI', 1700000000000000, 1000)),
    v2(24, struct.pack('<QiiiHHHHBB', 1, 2, 3, 4, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 3, 255)),
    v1(29, struct.pack('<Iffh', 1000, 1013.25, float('nan'), 2150)),
    v1(30, struct.pack('<Iffffff', 1000, 0.1, float('nan'), 7.0, 0, 0, 0)),
    v1(74, struct.pack('<ffffhH', 12.5, 11.0, 500.0, float('inf'), 360, 55)),
    v1(109, struct.pack('<HHBBBBB', 0, 0, 180, 255, 100, 30, 30), system=51, component=68),
    v1(166, struct.pack('<HHBBBBB', 0, 0, 200, 190, 100, 30, 30)),
    v2(147, struct.pack('<iih10HhBBBb', -1, -1, 32767, 4100, 4090, *[0xFFFF] * 8, -1, 0, 0, 0, 77)),
    v1(245, bytes([3, 2])),
    v2(33, position(1000), flags=1),
    v2(33, position(1200, 36000)),
    v1(33, position(1400)),
    v2(253, text(b'A' * 50, 7, 0)),
    v2(253, text(b'B' * 50, 7, 1)),
    v2(253, text(b'the end', 7, 2)),
    v1(253, struct.pack('<B50s', 2, b'short \xff\xfe')),
]

log = open(os.path.join(HERE, '..', 'data', 'vtol.tlog'), 'rb').read()

seeds = {
    'raw_every': b'\0' + b''.join(every),
    'raw_every_boot_epoch': b'\2' + b''.join(every),
    'raw_nothing_old': b'\4' + b''.join(every),
    'tlog_every': b'\1' + stamped(every),
    'tlog_real': b'\1' + log[:2000],
    'tlog_real_middle': b'\1' + log[400003:402500],
    'raw_garbage': b'\0' + b'\xfe\xfd\x00'.join(every) + every[0][:7],
    'raw_bad_crc': b'\0' + every[0] + every[4][:-1] + b'\x00' + every[13],
    'raw_unknown': b'\0' + v2(60000, b'abc') + v2(33, position(5), flags=2) + v1(255, b'xyz') + every[0],
    'raw_wrap': b'\2' + b''.join(v1(33, position(t & 0xFFFFFFFF)) for t in range(0xFFFFF000, 0x100001000, 0x400)),
    'raw_reboot': b'\2' + b''.join(v1(33, position(t)) for t in (600000, 600200, 3000, 3200)) + every[4],
    'raw_long_text': b'\2' + b''.join(v2(253, text(b'long' * 12 + b'er', 11, i)) for i in range(30)) + every[15],
    'raw_mostly_garbage': b'\0' + bytes(range(250)) * 40 + every[15],
    'tlog_cut': b'\1' + stamped(every)[:-20],
}

os.makedirs(OUT, exist_ok=True)
for name, content in seeds.items():
    with open(os.path.join(OUT, name), 'wb') as file:
        file.write(content)
