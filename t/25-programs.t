# Whole programs, of the shapes that people have written around this binding for
# years: each moves a volume to or from a file, by perl -w, and says nothing.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

# Arguments: the daemon's URI, the volume's path, the file.
my $HEAD = <<'EOP';
use strict;
use warnings;
use Sys::Virt;
use Fcntl;
my ($uri, $path, $name) = @ARGV;
my $QUIT = Sys::Virt::Stream::EVENT_HANGUP | Sys::Virt::Stream::EVENT_ERROR;
Sys::Virt::Event::register_default() if $ENV{EVENTS};
my $conn = Sys::Virt->new(uri => $uri);
my $st = $conn->new_stream($ENV{EVENTS} ? Sys::Virt::Stream::NONBLOCK : 0);
my $vol = $conn->get_storage_volume_by_path($path);
EOP
my $TO   = qq(open FILE, '>', \$name or die "cannot create \$name: \$!";\n);
my $FROM = qq(open FILE, '<', \$name or die "cannot open \$name: \$!";\n);
my $END  = qq(\$st->finish();\nclose FILE or die "cannot close \$name: \$!";\nprint "done\\n";\n);

my %down = (
    'recv in a loop' => <<'EOP',
$vol->download($st, 0, 0);
while (1) {
    my $data;
    my $left = $st->recv($data, 1024);
    last if $left == 0;
    while ($left > 0) {
        my $wrote = syswrite FILE, $data, $left or die "cannot write: $!";
        $data = substr $data, $wrote;
        $left -= $wrote;
    }
}
EOP
    'recv_all with syswrite' => <<'EOP',
sub sink { my ($self, $data, $nbytes) = @_; return syswrite FILE, $data, $nbytes }
$vol->download($st, 0, 0);
$st->recv_all(\&sink);
EOP
    'recv_all with a short syswrite' => <<'EOP',
$vol->download($st, 0, 0);
$st->recv_all(sub { syswrite FILE, $_[1], $_[2] > 7_000 ? 7_000 : $_[2] });
EOP
    'sparse_recv_all' => <<'EOP',
sub sink { my $self = shift; my $data = shift; my $nbytes = shift; return syswrite FILE, $data, $nbytes }
sub hole {
    my ($self, $length) = @_;
    my $at = sysseek FILE, $length, Fcntl::SEEK_CUR or die "cannot seek: $!";
    truncate FILE, $at;
}
$vol->download($st, 0, 0, Sys::Virt::StorageVol::VOL_DOWNLOAD_SPARSE_STREAM);
$st->sparse_recv_all(\&sink, \&hole);
EOP
    'events, download' => <<'EOP',
my $quit = 0;
sub event {
    my ($self, $events) = @_;
    if ($events & $QUIT) { $quit = 1; return }
    my $data;
    my $left = $self->recv($data, 1024);
    if ($left == 0) {
        $quit = 1;
        $self->remove_callback();
        return;
    }
    while ($left > 0) {
        my $wrote = syswrite FILE, $data, $left;
        $data = substr $data, $wrote;
        $left -= $wrote;
    }
}
$vol->download($st, 0, 0);
$st->add_callback(Sys::Virt::Stream::EVENT_READABLE, \&event);
Sys::Virt::Event::run_default() while !$quit;
EOP
);

my %up = (
    'send in a loop' => <<'EOP',
$vol->upload($st, 0, 0);
while (1) {
    my $data;
    my $left = sysread FILE, $data, 1024;
    die "cannot read: $!" if !defined $left;
    last if $left == 0;
    while ($left > 0) {
        my $sent = $st->send($data, $left);
        $data = substr $data, $sent;
        $left -= $sent;
    }
}
EOP
    'send_all with sysread' => <<'EOP',
sub source { my $self = $_[0]; my $nbytes = $_[2]; return sysread FILE, $_[1], $nbytes }
$vol->upload($st, 0, 0);
$st->send_all(\&source);
EOP
    'sparse_send_all' => <<'EOP',
sub source { return sysread FILE, $_[1], $_[2] }
sub section {
    my ($seek_data, $seek_hole) = (3, 4);
    my $at = sysseek FILE, 0, Fcntl::SEEK_CUR;
    my @answer;
    eval {
        my $data = sysseek FILE, $at, $seek_data;
        if (!defined $data) {
            my $end = sysseek FILE, 0, Fcntl::SEEK_END or die "cannot seek: $!";
            @answer = (0, $end - $at);
        }
        elsif ($data > $at) { @answer = (0, $data - $at) }
        else {
            my $hole = sysseek FILE, $data, $seek_hole or die "cannot seek: $!";
            @answer = (1, $hole - $data);
        }
    };
    die $@ if $@;
    sysseek FILE, $at, Fcntl::SEEK_SET;
    return @answer;
}
sub skip { my ($self, $length) = @_; sysseek FILE, $length, Fcntl::SEEK_CUR or die "cannot seek"; return 0 }
$vol->upload($st, 0, 0, Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM);
$st->sparse_send_all(\&source, \&section, \&skip);
EOP
    'events, upload' => <<'EOP',
my ($quit, $data, $left) = (0, undef, 0);
sub event {
    my ($self, $events) = @_;
    if ($events & $QUIT) { $quit = 1; return }
    $left = sysread FILE, $data, 1024 if !$left;
    if ($left == 0) {
        $quit = 1;
        $self->remove_callback();
        return;
    }
    my $sent = $self->send($data, $left);
    if ($sent > 0) {
        $data = substr $data, $sent;
        $left -= $sent;
    }
}
$vol->upload($st, 0, 0);
$st->add_callback(Sys::Virt::Stream::EVENT_WRITABLE, \&event);
Sys::Virt::Event::run_default() while !$quit;
EOP
);

my $daemon = daemon();
my $dir = scratch();
my @layout = (hole => 4 << 20, data => 200_704, hole => 1 << 20, data => 65_536, hole => 1 << 20);
my $source = $daemon->pool_dir . '/source';
sparse_file($source, @layout);
$daemon->adopt('source');
my $sha = sha_file($source);
my $keeps = blocks($source) * 512 < (1 << 20);

my $count = 0;
for my $name (sort keys %down) {
    my $file = "$dir/down" . ++$count;
    ok_perl($HEAD . $TO . $down{$name} . $END, "done\n", $name,
        args => [$daemon->uri, $source, $file], env => { EVENTS => $name =~ /^events/ ? 1 : undef });
    is sha_file($file), $sha, "$name: the content";
    cmp_ok blocks($file), '<=', blocks($source) + 512, "$name: the holes"
        if $keeps && $name =~ /^sparse/;
}
sparse_file("$dir/source", @layout);
for my $name (sort keys %up) {
    my $volume = 'up' . ++$count;
    my $file = $daemon->pool_dir . "/$volume";
    $daemon->volume($volume, $name =~ /^sparse/ ? 0 : -s $source);
    ok_perl($HEAD . $FROM . $up{$name} . $END, "done\n", $name,
        args => [$daemon->uri, $file, "$dir/source"], env => { EVENTS => $name =~ /^events/ ? 1 : undef });
    is sha_file($file), $sha, "$name: the content";
    cmp_ok blocks($file), '<=', blocks($source) + 512, "$name: the holes"
        if $keeps && $name =~ /^sparse/;
}

# The one everybody starts with: a guest's screen in a file.
my $shot = <<'EOP';
use strict;
use warnings;
use Sys::Virt;
my $conn = Sys::Virt->new(uri => $ARGV[0]);
my $dom = $conn->get_domain_by_name('test');
my $st = $conn->new_stream();
my $mime = $dom->screenshot($st, 0, 0);
open my $out, '>:raw', $ARGV[1] or die "cannot create $ARGV[1]: $!";
$st->recv_all(sub { my ($self, $data, $nbytes) = @_; print {$out} $data or return -1; return $nbytes });
$st->finish;
close $out or die "cannot save: $!";
print "$mime\n";
EOP
my @shots;
for my $uri ('test:///default', $daemon->test_uri) {
    my $file = "$dir/shot" . ++$count;
    ok_perl($shot, "image/png\n", 'screenshot by ' . ($uri =~ /\?/ ? 'a daemon' : 'no daemon'),
        args => [$uri, $file]);
    push @shots, slurp($file);
}
is substr($shots[0], 0, 8), "\x89PNG\r\n\x1a\n", 'a PNG';
is sha($shots[1]), sha($shots[0]), 'the same both ways';

SKIP: {
    skip 'no QEMU', 1 if grep { !StreamTest::has($_) } qw(qemu console);
    my $guest = $daemon->guest;
    ok_perl(<<'EOP', "HELLO\n", 'a console program', args => [$daemon->uri, $guest->get_name]);
use strict;
use warnings;
use Sys::Virt;
my $conn = Sys::Virt->new(uri => $ARGV[0]);
my $dom = $conn->get_domain_by_name($ARGV[1]);
my $st = $conn->new_stream();
$dom->open_console($st, undef, 0);
$st->send("?HELLO\n", 7);
my $all = '';
while ($all !~ /HELLO\n/) {
    my $count = $st->recv(my $data, 4096);
    last if $count <= 0;
    $all .= $data;
}
$st->abort();
print $all =~ /(HELLO\n)/;
EOP
}

done_testing;
