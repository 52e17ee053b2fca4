# What virt-stream shows on a terminal while it works.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);
use StreamTest::Command;
use Sys::Virt::Stream::Command::Progress;

plan skip_all => 'the C binding has no whole files' unless rust();

my $CLASS = 'Sys::Virt::Stream::Command::Progress';
my ($KiB, $MiB, $GiB) = (1 << 10, 1 << 20, 1 << 30);

# After so many seconds of an even pace.
sub line {
    my ($seconds, $done, $holes, $total, $columns, $complete) = @_;
    my $progress = $CLASS->new(to => \*STDERR, now => 100, total => $total);
    @$progress{qw(done holes)} = ($done, $holes);
    return $progress->line(100 + $seconds, $columns, $complete);
}

is line(4, $GiB, 0, 4 * $GiB, 80),
    ' 25% [=======                        ] 1.0 GiB of 4.0 GiB, 256 MiB/s, 0:12 left', 'a bar';
is line(4, $GiB, 0.3 * $GiB, 4 * $GiB, 80),
    ' 25% [=====               ] 1.0 GiB of 4.0 GiB, 256 MiB/s, 0:12 left, 30% holes', 'and holes';
is line(4, $GiB, 0.3 * $GiB, 4 * $GiB, 60), ' 25% 1.0 GiB of 4.0 GiB, 256 MiB/s, 0:12 left, 30% holes', 'no room for a bar';
is line(4, $GiB, 0.3 * $GiB, 4 * $GiB, 50), ' 25% 1.0 GiB of 4.0 GiB, 256 MiB/s, 0:12 left', 'nor for holes';
is line(4, $GiB, 0.3 * $GiB, 4 * $GiB, 30), ' 25% 1.0 GiB of 4.0 GiB', 'nor for much';
is line(4, $GiB, 0.3 * $GiB, 4 * $GiB, 10), ' 25% 1.0 ', 'nor for anything';
is line(2, 3 * $MiB, 0, undef, 80), '3.0 MiB, 1.5 MiB/s', 'an end that is not known';
is line(0, 0, 0, 4 * $GiB, 80), '  0% [' . ' ' x 40 . '] 0 B of 4.0 GiB', 'nothing yet';
is line(7300, 10 * $KiB, 0, 20 * $KiB, 80), ' 50% [===============               ] 10.0 KiB of 20.0 KiB, 1 B/s, 2:01:40 left', 'hours';
is line(4, 5 * $GiB, 0, 4 * $GiB, 80), '100% [' . '=' x 31 . '] 5.0 GiB of 4.0 GiB, 1.2 GiB/s, 0:00 left', 'more than was to be had';
is line(8, $GiB, 0, $GiB, 60, 1), '100% [' . '=' x 24 . '] 1.0 GiB, 128 MiB/s, in 0:08', 'the end';
for my $columns (2 .. 200) {
    my $line = line(4, $GiB, 0.3 * $GiB, 4 * $GiB, $columns);
    fail "$columns columns: " . length $line if length $line >= $columns;
}

subtest 'the rate is that of late' => sub {
    my $progress = $CLASS->new(to => \*STDERR, now => 0, total => 100 * $MiB);
    for my $second (1 .. 60) { @$progress{qw(done holes)} = ($second * $KiB, 0); $progress->line($second, 80) }
    @$progress{qw(done holes)} = (60 * $KiB + 10 * $MiB, 0);
    like $progress->line(61, 80), qr{ 9\d\d KiB/s| 1\.0 MiB/s}, 'in a window of some seconds';
};

subtest 'the width' => sub {
    open my $file, '>', scratch() . '/no-terminal' or die $!;
    my $progress = $CLASS->new(to => $file);
    for ([undef, 80], ['', 80], [132, 132], ['x', 80], [0, 80]) {
        local $ENV{COLUMNS} = $_->[0] if defined $_->[0];
        local %ENV = %ENV;
        delete $ENV{COLUMNS} unless defined $_->[0];
        is $progress->width, $_->[1], 'of no terminal: ' . ($_->[0] // 'undef');
    }
};

SKIP: {
    my $why = StreamTest::Command::no_terminal();
    skip $why, 5 if $why;
    my $daemon = daemon();
    my $dir = scratch();
    my $content = pattern(8 << 20);
    $daemon->volume('source', undef, $content);
    $daemon->volume('target', 8 << 20);
    my @to = ('-c', $daemon->uri);

    # The source is a pipe that stays open until there was something to see.
    my $slow = sub {
        my ($name, $code, %opt) = @_;
        pipe my $reader, my $writer or die "pipe: $!";
        my $run = StreamTest::Command->start([@to, @{ $opt{with} || [] }, qw(upload - streams/target)],
            terminal => $opt{columns} || 80, in => $reader, env => $opt{env});
        close $reader;
        local $SIG{PIPE} = 'IGNORE';
        $writer->autoflush(1);
        my $at = 0;
        my $feed = sub { my $bytes = shift // 65_536; print {$writer} substr $content, $at, $bytes; $at += $bytes };
        $code->($run, $feed);
        close $writer;
        return $run->end;
    };

    subtest 'a bar is drawn, and completed' => sub {
        my $got = $slow->('bar', sub {
            my ($run, $feed) = @_;
            ok within(60, sub { $feed->(1000); $run->sees_now(qr/\r[\d.]+ \w+, [\d.]+ \w+\/s/) }), 'it is seen while it goes on';
        });
        like $got->{seen}, qr{\r100% [^\r\n]* in \d+:\d\d *\r?\n\z}, 'and its end';
        is_deeply [@$got{qw(status signal)}], [0, 0], 'which is a good one';
        my @long = grep { length >= 80 } split /[\r\n]+/, $got->{seen};
        is_deeply \@long, [], 'no line is as long as the terminal is wide';
    };

    subtest 'quiet' => sub {
        my $got = $slow->('quiet', sub {
            my ($run, $feed) = @_;
            within(2, sub { $feed->(1000); $run->sees_now(qr/./) });
        }, with => ['--quiet']);
        is_deeply [@$got{qw(seen status)}], ['', 0], 'nothing is';
    };

    subtest 'interrupted by its key' => sub {
        my $got = $slow->('interrupted', sub {
            my ($run, $feed) = @_;
            ok within(60, sub { $feed->(1000); $run->sees_now(qr{/s}) }), 'it goes on';
            $run->type("\x03");
            ok within(60, sub { $feed->(1000); $run->reap }), 'until it is interrupted';
        });
        is $got->{signal}, 2, 'which it ends by';
        like $got->{seen}, qr/\r {10,}\r\z/, 'the line is cleared';
    };

    subtest 'interrupted while the first line is drawn' => sub {
        # A program that loads IO::File while its signal handlers are set gets the real one, and then a signal.
        require File::Path;
        File::Path::make_path("$dir/late/IO");
        open my $file, '>', "$dir/late/IO/File.pm" or die "late: $!";
        print {$file} "\@INC = grep { \$_ ne '$dir/late' } \@INC;\ndelete \$INC{'IO/File.pm'};\nrequire IO::File;\n"
            . "kill INT => \$\$ if ref \$SIG{INT};\n1;\n";
        close $file or die "late: $!";
        my $got = $slow->('interrupted early', sub {
            my ($run, $feed) = @_;
            ok within(60, sub { $feed->(1000); $run->sees_now(qr{/s}) }), 'it goes on';
            kill INT => $run->pid;
            ok within(60, sub { $feed->(1000); $run->reap }), 'until it is interrupted';
        }, env => { PERL5OPT => "-Mlib=$dir/late" });
        is $got->{signal}, 2, 'which it ends by';
    };

    subtest 'a picture' => sub {
        my $got = StreamTest::Command->run([qw(-c test:///default screenshot test), "$dir/shot"], terminal => 80);
        is $got->{seen}, "$dir/shot: image/png, " . (-s "$dir/shot") . " bytes\r\n", 'what it is';
        $got = StreamTest::Command->run([qw(-q -c test:///default screenshot test), "$dir/shot"], terminal => 80);
        is $got->{seen}, '', 'unless it is quiet';
    };
}

done_testing;
