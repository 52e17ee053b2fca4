# The same operations as client.c through libvirt's Python binding.
# Usage: client.py URI OP PATH BYTES
import os
import sys

import libvirt

SECTION = 1048576


class State:
    def __init__(self, total):
        self.total = total
        self.pos = self.bytes = self.calls = 0
        self.prepared = b""
        self.whole = b""


def sink(stream, data, s):
    s.bytes += len(data)
    s.calls += 1
    return len(data)


def sink_hole(stream, length, s):
    s.pos += length
    return 0


def source(stream, n, s):
    n = min(n, s.total - s.pos)
    s.pos += n
    s.bytes += n
    s.calls += 1
    return s.whole if n == len(s.whole) else s.prepared[:n]


def source_hole(stream, s):
    if s.pos >= s.total:
        return False, 0
    return (s.pos // SECTION) % 2 == 0, SECTION - s.pos % SECTION


def source_skip(stream, length, s):
    s.pos += length
    return 0


def file_sink(stream, data, s):
    n = os.write(s.fd, data)
    s.bytes += n
    s.calls += 1
    return n


def file_sink_hole(stream, length, s):
    os.ftruncate(s.fd, os.lseek(s.fd, length, os.SEEK_CUR))
    return 0


def file_source(stream, n, s):
    data = os.read(s.fd, min(n, s.total - s.pos))
    s.pos += len(data)
    s.bytes += len(data)
    s.calls += 1
    return data


def file_source_hole(stream, s):
    if s.pos >= s.total:
        return False, 0
    try:
        until = os.lseek(s.fd, s.pos, os.SEEK_DATA)
    except OSError:
        until = s.total
    in_data = until == s.pos
    if in_data:
        until = os.lseek(s.fd, s.pos, os.SEEK_HOLE)
    os.lseek(s.fd, s.pos, os.SEEK_SET)
    return in_data, min(until, s.total) - s.pos


def file_source_skip(stream, length, s):
    s.pos += length
    os.lseek(s.fd, length, os.SEEK_CUR)
    return 0


def local_file(path, up):
    if up:
        return os.open(os.path.join(os.path.dirname(path), "down"), os.O_RDONLY)
    return os.open(path + ".file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)


def main():
    uri, op, path, total = sys.argv[1:]
    conn = libvirt.open(uri)
    if op == "start":
        print("0 0")
        return
    sparse = op.startswith("sparse_")
    s = State(int(total) * (2 if sparse else 1))
    vol = conn.storageVolLookupByPath(path)
    st = conn.newStream(0)
    if "send" in op:
        flags = libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM if sparse else 0
        vol.upload(st, 0, s.total, flags)
    else:
        flags = libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM if sparse else 0
        vol.download(st, 0, s.total, flags)
    if op.endswith("_file"):
        s.fd = local_file(path, "send" in op)
    if "send_all" in op:
        s.prepared = b"x" * SECTION
    if op == "send_all_assign":
        s.whole = s.prepared[:libvirt.virStorageVol.streamBufSize]

    if op in ("recv_all", "recv_all_named"):
        st.recvAll(sink, s)
    elif op in ("send_all", "send_all_assign"):
        st.sendAll(source, s)
    elif op == "sparse_recv_all":
        st.sparseRecvAll(sink, sink_hole, s)
    elif op == "sparse_send_all":
        st.sparseSendAll(source, source_hole, source_skip, s)
    elif op == "recv_file":
        st.recvAll(file_sink, s)
    elif op == "send_file":
        st.sendAll(file_source, s)
    elif op == "sparse_recv_file":
        st.sparseRecvAll(file_sink, file_sink_hole, s)
    elif op == "sparse_send_file":
        st.sparseSendAll(file_source, file_source_hole, file_source_skip, s)
    elif op.startswith("recv:"):
        size = int(op[5:])
        data = st.recv(size)
        while data:
            s.bytes += len(data)
            s.calls += 1
            data = st.recv(size)
    elif op.startswith("send:"):
        data = b"x" * int(op[5:])
        while s.pos < s.total:
            s.pos += st.send(data)
            s.calls += 1
        s.bytes = s.pos
    else:
        sys.exit("client: no operation " + op)
    st.finish()
    print(s.bytes, s.calls)


main()
