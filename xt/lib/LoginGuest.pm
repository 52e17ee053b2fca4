package LoginGuest;

# A Linux guest with a login on a serial port and on a console of virtio's, which is faster. It is made of
# Debian's kernel, and of busybox as all the rest. If they are not installed, apt-get downloads both to the
# user's cache.

use strict;
use warnings;

use File::Path ();
use POSIX ();
use StreamTest ();

my $CACHE = ($ENV{XDG_CACHE_HOME} // "$ENV{HOME}/.cache") . '/sys-virt-stream-guest';
my ($USER, $PASSWORD) = ('root', 'let me in');
my @MODULES = qw(virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev
    virtio/virtio_pci char/virtio_console);
my $made = 0;

# The paths of kernel and busybox; undef and a reason where they are not to be had.
my ($kernel, $busybox);
sub parts {
    return ($kernel, $busybox) if $kernel && $busybox;
    return (undef, 'the guest is an x86_64, and this machine is not') if (POSIX::uname())[4] ne 'x86_64';
    for my $where ('', $CACHE) {
        ($busybox) = grep { -r && is_static($_) } map { "$where/$_/busybox" } qw(bin usr/bin);
        ($kernel) = sort { -M $a <=> -M $b } grep { -r } glob "$where/boot/vmlinuz-*";
        return ($kernel, $busybox) if $kernel && $busybox;
        $where eq '' ? download() : last;
    }
    return (undef, 'no kernel and busybox: install linux-image-cloud-amd64 and busybox-static (Debian)');
}

# Without the program that loads libraries, which a file's head names. The guest has none.
sub is_static { return substr(StreamTest::slurp($_[0]), 0, 4096) !~ /ld-linux/ }

sub download {
    return if glob "$CACHE/boot/vmlinuz-*";
    return if grep { !StreamTest::find_program($_) } qw(apt-get apt-cache dpkg-deb);
    my $new = "$CACHE.$$";
    File::Path::make_path($new);
    my ($image) = map { /Depends: (linux-image-\S+)/ } `apt-cache depends linux-image-cloud-amd64 2>/dev/null`;
    my $got = $image && system("cd '$new' && apt-get -qq download busybox-static $image >log 2>&1"
        . ' && for deb in *.deb; do dpkg-deb -x $deb . || exit 1; done; rm -r usr *.deb') == 0;
    rename $new, $CACHE if $got;
    File::Path::remove_tree($new) if -e $new;
    return;
}

# A domain of a test's daemon that is not started. A reboot ends it if `on_reboot` is destroy.
sub define {
    my ($daemon, %opt) = @_;
    my ($from, $busybox) = parts();
    die "$busybox\n" unless $from;
    my $name = 'login' . ++$made;
    my %file = map { $_ => $daemon->dir . "/$name.$_" } qw(kernel initrd);
    $daemon->own(StreamTest::spew($file{kernel}, StreamTest::slurp($from)), 0600);
    $daemon->own(StreamTest::spew($file{initrd}, initrd($name, $busybox, modules($from))), 0600);
    my $emulator = StreamTest::find_program('qemu-system-x86_64');
    my $reboot = $opt{on_reboot} // 'restart';
    return $daemon->conn->define_domain(<<"XML");
<domain type='qemu'>
  <name>$name</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$file{kernel}</kernel>
    <initrd>$file{initrd}</initrd>
    <cmdline>console=ttyS0 quiet loglevel=1 nokaslr mitigations=off random.trust_cpu=on</cmdline>
  </os>
  <cpu mode='maximum'/>
  <on_reboot>$reboot</on_reboot>
  <devices>
    <emulator>$emulator</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='pty'/>
    <console type='pty'><target type='serial'/></console>
    <console type='pty'><target type='virtio'/><alias name='ua-fast'/></console>
  </devices>
</domain>
XML
}

# What the kernel needs for the faster console, and has not built in.
sub modules {
    my ($kernel) = @_;
    my ($root, $version) = $kernel =~ m{(.*)/boot/vmlinuz-(.*)};
    return map { glob "$root/lib/modules/$version/kernel/drivers/$_.ko*" } @MODULES;
}

# The name of the faster one, for open_console.
sub fast     { return 'ua-fast' }
sub user     { return $USER }
sub password { return $PASSWORD }

# An archive in cpio's format newc, as the kernel unpacks it into memory.
sub initrd {
    my ($name, $busybox, @modules) = @_;
    my $hash = crypt $PASSWORD, '$6$streams$';
    my ($file, $dir, $link, $device) = (0100000, 0040000, 0120000, 0020000);
    my @entries = (
        (map { [$_, $dir | 0755, ''] } qw(bin dev etc lib proc root)),
        (map { ["lib/$_", $file | 0644, StreamTest::slurp($modules[$_ - 1])] } 1 .. @modules),
        ['dev/console',  $device | 0600, '', 5, 1],
        ['bin/busybox',  $file | 0755,   StreamTest::slurp($busybox)],
        ['bin/sh',       $link | 0777,   'busybox'],
        ['etc/passwd',   $file | 0644,   "$USER:$hash:0:0::/root:/bin/sh\n"],
        ['etc/group',    $file | 0644,   "$USER:x:0:\n"],
        ['etc/profile',  $file | 0644,   "export PATH=/bin\nPS1='\\h# '\n"],
        ['etc/issue',    $file | 0644,   "A guest of libvirt's\n"],
        ['etc/inittab',  $file | 0644,   join '', map { "$_\::respawn:/bin/getty -L 115200 $_ vt100\n" } qw(ttyS0 hvc0)],
        ['init',         $file | 0755,   <<"SH"],
#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
hostname $name
for module in @{[ 1 .. @modules ]}; do insmod /lib/\$module; done
exec init
SH
        ['TRAILER!!!', 0, ''],
    );
    my ($archive, $number) = ('', 0);
    for (@entries) {
        my ($path, $mode, $content, @device) = @$_;
        my @fields = (++$number, $mode, 0, 0, 1, 0, length $content, 0, 0, @device ? @device : (0, 0), 1 + length $path, 0);
        $archive .= '070701' . join('', map { sprintf '%08X', $_ } @fields) . "$path\0";
        for my $piece ('', $content) {
            $archive .= $piece;
            $archive .= "\0" x (-length($archive) % 4);
        }
    }
    return $archive;
}

1;
