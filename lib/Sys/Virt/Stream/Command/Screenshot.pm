package Sys::Virt::Stream::Command::Screenshot;

# virt-stream screenshot: what a domain's screen shows.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Cwd ();
use File::Basename ();
use File::Temp ();
use POSIX ();
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Files qw(target write_all);
use Sys::Virt::Stream::Command::Objects qw(connection domain);

my %FORMAT = ('image/png' => 'png', 'image/x-portable-pixmap' => 'ppm');
my %KNOWN = reverse %FORMAT;

sub run {
    my ($class, $run, $name, $file) = @_;
    my $screen = $run->whole('screen') // 0;
    my $wanted = $run->option('format');
    die "--format is png or ppm, not '$wanted'\n" if defined $wanted && !$KNOWN{$wanted};
    my $conn = connection($run->option('connect'));
    my $domain = domain($conn, $name);
    $run->catch_signals;
    my $st = $conn->new_stream;
    my $type = trying("cannot take a screenshot of $name", sub { $domain->screenshot($st, $screen, 0) });
    my $sent = $FORMAT{$type} // '';
    my $named = defined $file;
    $wanted //= $named ? ($file =~ /\.(png|ppm)\z/i ? lc $1 : $sent) : 'png';
    die "the hypervisor sends $type, of which no \U$wanted\E is made\n" if $sent ne $wanted && "$sent $wanted" ne 'ppm png';
    $file //= _name($domain) . ".$wanted";
    my ($target, $replace) = target($run, $file);
    my $bytes = trying("cannot take a screenshot of $name", sub {
        return $st->recv_file($target, replace => $replace)->{bytes} if $sent eq $wanted;
        return _converted($st, $target, $replace);
    });
    print "$file\n" unless $named;
    $run->note("$file: $KNOWN{$wanted}, $bytes bytes") if $KNOWN{$wanted};
    return;
}

# As virsh names it.
sub _name {
    my ($domain) = @_;
    return $domain->get_name =~ tr{/}{_}r . POSIX::strftime('-%Y-%m-%d-%H:%M:%S', localtime);
}

# Writes a PNG of the PPM that comes.
sub _converted {
    my ($st, $target, $replace) = @_;
    require Sys::Virt::Stream::Command::Picture;
    $target = Cwd::realpath($target) if $replace && -l $target && -e $target;
    my $made = $replace ? _beside($target) : undef;
    my $fh = $made || $target;
    if (!ref $fh) { open $fh = undef, '>:raw', $target or die "cannot write $target: $!\n" }
    my $bytes = 0;
    my $put = sub { write_all($fh, $target, $_[0]); $bytes += length $_[0] };
    my $picture = Sys::Virt::Stream::Command::Picture->new($put);
    $st->recv_all(sub { $picture->take($_[1]); return $_[2] });
    $st->finish;
    $picture->complete;
    close $fh or die "cannot write $target: $!\n";
    if ($made) {
        rename $made->filename, $target or die "cannot replace $target: $!\n";
        $made->unlink_on_destroy(0);
    }
    return $bytes;
}

# A new file in the same folder, with the permissions that the one at $target has or would get.
sub _beside {
    my ($target) = @_;
    my ($name, $folder) = File::Basename::fileparse($target);
    die "cannot replace $target: Is a directory\n" if $name eq '' || $name eq '.';
    my $made = eval { File::Temp->new(TEMPLATE => ".$name.XXXXXX", DIR => $folder) }
        or die "cannot write $target: $!\n";
    binmode $made;
    chmod +(-e $target ? (stat _)[2] & 0777 : 0666 & ~umask), $made->filename;
    return $made;
}

1;
