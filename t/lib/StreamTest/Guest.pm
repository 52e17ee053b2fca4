package StreamTest::Guest;

# A guest without an operating system: what is on its disk, and what libvirt is told of it.

use strict;
use warnings;

use StreamTest ();

# 16-bit code for the first serial port: at the first byte that comes in it says
# "echo\r\n", then it sends back each byte. It waits for that one because QEMU notices
# an opened console by and by, and before 8.2 drops what the guest says till then. It
# spins for a while between bytes, then sleeps until the next clock tick, so that an idle
# guest takes no processor. The receive buffer is never reset: a byte sent before the
# guest has booted counts too.
my $BOOT = pack('H*', join '', qw(
    31c0 8ed8 fb fc
    e81500 bee07d
    ac 84c0 7405 e81e00 ebf6
    e80500 e81600 ebf8
    31c9
    bafd03 ec a801 7505 e2f6 f4 ebf1
    baf803 ec c3
    88c4 bafd03 ec a820 74fb 88e0 baf803 ee c3
));
my $SAYS = "echo\r\n";

# What the guest says first.
sub says { return $SAYS }

# The disk. The text stands at 0x1e0 of its first sector, which is loaded at 0x7c00.
sub image {
    my $sector = pack('a480 a30 H4', $BOOT, $SAYS, '55aa');
    return $sector . "\0" x ((1 << 20) - 512);
}

sub xml {
    my ($name, $image) = @_;
    my $emulator = StreamTest::find_program('qemu-system-x86_64');
    return <<"XML";
<domain type='qemu'>
  <name>$name</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>$emulator</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='$image'/>
      <target dev='hda' bus='ide'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='pty'/>
    <console type='pty'><target type='serial'/></console>
  </devices>
</domain>
XML
}

1;
