# Taint mode: tainted values are sent like others, as with the C binding, and a tainted
# name is refused where Perl's own open refuses it.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

my $daemon = daemon();
my $content = pattern(300_000);
$daemon->volume('source', undef, $content);
$daemon->volume('target', 4 << 20);
my $target = $daemon->pool_dir . '/target';

my $HEAD = <<'EOP';
use strict; use warnings; use Sys::Virt; use Scalar::Util qw(tainted);
our ($uri, $dir, $scratch) = @ARGV;
$| = 1;
# What comes from outside is tainted; with it so is what it is put into.
our $taint = substr $uri, 0, 0;
tainted($taint) or print "not tainted\n";
our $conn = Sys::Virt->new(uri => $uri);
sub opened {
    my ($way, $name, $sparse) = @_;
    my $st = $conn->new_stream;
    $conn->get_storage_volume_by_path("$dir/$name")->$way($st, 0, 0, $sparse || 0);
    return $st;
}
sub untainted { return $_[0] =~ /\A(.*)\z/s ? $1 : undef }
EOP
my @modes = (['-T', 'die'], ['-t', 'warn']);

sub each_mode {
    my ($name, $code, $out, %opt) = @_;
    for my $mode (@modes) {
        my $got = run_perl("$HEAD$code", switches => ['-w', $mode->[0]], deadline => 60,
            args => [$daemon->uri, $daemon->pool_dir, scratch()], %opt);
        is_deeply $got, { out => $out, err => '', status => 0, signal => 0, hang => 0 }, "$name, $mode->[0]"
            or diag explain $got;
    }
    return;
}
sub arrived { my ($what) = @_; return is sha(substr slurp($target), 0, length $what), sha($what), 'arrived' }

each_mode('send', <<'EOP', "6 6 3\n");
my $st = opened(upload => 'target');
my $data = "tainted$taint";
my @sent = ($st->send($data, 6), $st->send("second$taint", "6$taint"), $st->send("end$taint", 99));
$st->finish;
print "@sent\n";
EOP
arrived('taintesecondend');
each_mode('send of a large value', <<'EOP', "all\n");
my $st = opened(upload => 'target');
my ($data, $at) = ('0123456789' x 100_000 . $taint, 0);
while ($at < length $data) { my $piece = substr $data, $at; my $sent = $st->send($piece, 200_000); last if $sent <= 0; $at += $sent }
$st->finish;
print $at == length $data ? "all\n" : "$at\n";
EOP
arrived('0123456789' x 100_000);
each_mode('a handler that supplies tainted data', <<'EOP', "done\n");
my ($st, @pieces) = (opened(upload => 'target'), "first$taint", "piece$taint");
$st->send_all(sub { my $piece = shift @pieces; return 0 unless defined $piece; $_[1] = $piece; return length $piece });
$st->finish;
print "done\n";
EOP
arrived('firstpiece');
each_mode('a handler that reads a file', <<'EOP', "done\n");
open my $in, '<', untainted("$dir/source") or die $!;
my $st = opened(upload => 'target');
$st->send_all(sub { return sysread $in, $_[1], $_[2] });
$st->finish;
print "done\n";
EOP
arrived($content);
each_mode('sparse_send_all', <<'EOP', "done\n");
my @sections = ([1, 8], [1, 0]);
my $st = opened(upload => 'target', Sys::Virt::StorageVol::VOL_UPLOAD_SPARSE_STREAM);
$st->sparse_send_all(sub { $_[1] = "sections$taint"; shift @sections; "8$taint" }, sub { map { "$_$taint" } @{ $sections[0] } }, sub { 0 });
$st->finish;
print "done\n";
EOP
arrived('sections');
each_mode('what is received', <<'EOP', "300000 300000\n");
my ($n, $all) = (0, '');
my $st = opened(download => 'source');
$st->recv_all(sub { $n += $_[2]; $all .= $_[1]; $_[2] });
$st->finish;
print "$n ", length $all, "\n";
EOP
each_mode('received into what was tainted', <<'EOP', "1000 right 1\n");
my ($st, $data) = (opened(download => 'source'), "before$taint");
my $count = $st->recv($data, 1_000);
open my $in, '<:raw', untainted("$dir/source") or die $!;
read $in, my $want, 1_000;
print "$count ", $data eq $want ? 'right' : 'wrong', ' ', tainted($data) ? 1 : 0, "\n";
$st->abort;
EOP
each_mode('numbers and streams that are tainted', <<'EOP', "10 10\n");
my $st = opened(download => 'source');
my $first = $st->recv(my $data, "10$taint");
my $second = $st->recv($data, "10$taint", "0$taint");
print "$first $second\n";
$st->abort;
EOP

SKIP: {
    skip 'the C binding has no whole files, and no handle', 1 unless rust();
    each_mode('send_file of a tainted name', <<'EOP', "300000 300000\n");
my $name = "$dir/source";
tainted($name) or print "not tainted\n";
print opened(upload => 'target')->send_file($name)->{bytes};
open my $in, '<', $name or die $!;
print ' ', opened(upload => 'target')->send_file($in)->{bytes}, "\n";
EOP
    arrived($content);
    each_mode('recv_file of a name that is not tainted', <<'EOP', "300000 300000 300000\n");
my $name = untainted("$scratch/untainted.$$");
print opened(download => 'source')->recv_file($name)->{bytes}, ' ';
print opened(download => 'source')->recv_file($name, replace => "1$taint", length => "300000$taint")->{bytes}, ' ';
print -s $name, "\n";
unlink $name;
EOP
    each_mode('a handle', <<'EOP', "15 right\n");
my $handle = opened(upload => 'target')->handle;
print {$handle} "through$taint";
my $count = syswrite $handle, "a handle$taint";
close $handle or die "close: $!";
$handle = opened(download => 'target')->handle;
read $handle, my $data, 15;
print length $data, ' ', $data eq 'througha handle' ? "right\n" : "wrong\n";
EOP
    # Perl's own open says what is right for a file that is written.
    for my $mode (@modes) {
        for my $options ('', ', replace => 1', ', offset => 10') {
            my $got = run_perl($HEAD . <<"EOP", switches => ['-w', $mode->[0]], deadline => 60,
my \$name = "\$scratch/tainted.\$\$";
my \@said;
local \$SIG{__WARN__} = sub { push \@said, \@_ };
eval { open my \$out, '>', \$name or die \$!; 1 } or push \@said, \$@;
my \$perl = join '', splice \@said;
my \$st = opened(download => 'source');
eval { \$st->recv_file(\$name$options); 1 } or push \@said, \$@;
my \$ours = join '', \@said;
tr/\\n//d, s/ in \\S+ while/ in CALL while/, s/ at \\S+ line \\d+\\.?// for \$perl, \$ours;
print \$ours eq \$perl ? "as open\\n" : "\$ours\\nopen: \$perl\\n";
\$perl =~ /^Insecure dependency/ or print "open takes it\\n";
my \$plain = untainted(\$name);
print -s \$plain ? "written\\n" : "not written\\n";
unlink \$plain;
# A name that is refused leaves the stream as it was.
print eval { \$st->recv(my \$data, 10) } // 'ended', "\\n";
EOP
                args => [$daemon->uri, $daemon->pool_dir, scratch()]);
            my $out = "as open\n" . ($mode->[1] eq 'die' ? "not written\n10\n" : "written\nended\n");
            # What is closed may also be read to its end.
            $got->{out} =~ s/^0\n\z/ended\n/m;
            is_deeply $got, { out => $out, err => '', status => 0, signal => 0, hang => 0 },
                "recv_file of a tainted name$options, $mode->[0]" or diag explain $got;
        }
    }
}

done_testing;
