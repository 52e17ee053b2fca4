# A stream as a filehandle: each of Perl's operators does what it does on a file with the
# same bytes.
use strict;
use warnings;

use IO::Handle ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding has no handle' unless rust();

{ package Made; sub TIESCALAR { bless [$_[1]] } sub FETCH { $_[0][0] } }

my $daemon = daemon();
my $conn = $daemon->conn;
my $scratch = scratch();

# Lines and paragraphs that cross the pieces a stream comes in, and none at the end.
my $text = "\n\nfirst\n" . join('', map { "line $_ of many\n" . ($_ % 7 ? '' : "\n" x ($_ % 4 + 1)) } 1 .. 40_000)
    . 'long ' x 100_000 . "\n\n\n\nlast, without an end";
my %content = (
    text => $text, lines => "one\ntwo\nthree\n", newlines => "\n" x 5, one => "\n", empty => '',
    bytes => pattern(700_001),
);
my (%volume, %file);
for my $name (keys %content) {
    $volume{$name} = $daemon->volume($name, undef, $content{$name});
    $file{$name} = spew("$scratch/$name", $content{$name});
}

sub reader {
    my ($name) = @_;
    my $st = $conn->new_stream;
    $volume{$name}->download($st, 0, 0);
    return $st->handle;
}

sub writer {
    my ($volume) = @_;
    my $st = $conn->new_stream;
    $volume->upload($st, 0, 0);
    return $st->handle;
}

# What the code makes of each content, digested, from a stream and from a file.
sub same {
    my ($name, $code, @contents) = @_;
    for my $content (@contents ? @contents : sort keys %content) {
        open my $file, '<:raw', $file{$content} or die "$content: $!";
        my @of;
        for my $fh (reader($content), $file) {
            my @values = $code->($fh);
            close $fh or push @values, "close: $!";
            push @of, [map { defined && length > 100 ? sha($_) : $_ } @values];
        }
        is_deeply $of[0], $of[1], "$name: $content" or diag explain \@of;
    }
    return;
}

sub digested { return scalar(@_), sha(join '|', map { length . ":$_" } @_) }

my %separator = (
    'a newline' => "\n", 'everything' => undef, 'a paragraph' => '', 'a record' => \1000,
    'a long record' => \300_000, 'a word' => 'line 9', 'a letter' => 'e', 'a rare one' => "\0\0\0",
);
for my $what (sort keys %separator) {
    local $/ = $separator{$what};
    same("readline, $what", sub {
        my ($fh) = @_;
        my @all;
        local $_;
        while (<$fh>) { push @all, $_; last if @all > 300_000 }
        return digested(@all), $., eof $fh ? 1 : 0;
    }, $what eq 'a letter' ? qw(lines empty) : ());
    same("readline in a list, $what", sub { my ($fh) = @_; return digested(<$fh>), $. });
    same("getline, getlines, $what", sub {
        my ($fh) = @_;
        return digested(grep { defined } $fh->getline, $fh->getline, $fh->getlines), $fh->input_line_number;
    });
    same("past the end, $what", sub { my ($fh) = @_; () = <$fh>; return scalar(<$fh>), scalar(<$fh>), $. });
}
same('undef at once, then again', sub { my ($fh) = @_; local $/; return map { scalar <$fh> } 1 .. 3 });
same('one line, then the rest', sub {
    my ($fh) = @_;
    my $line = <$fh>;
    local $/;
    return $line, scalar(<$fh>), $., scalar <$fh>;
});

for my $length (1, 512, 300_000, 1 << 24) {
    same("read by $length", sub {
        my ($fh) = @_;
        my ($all, @counts) = '';
        while (my $count = read $fh, my $data, $length) {
            push @counts, $count;
            $all .= $data;
            last if @counts > 5_000;
        }
        return $all, join ' ', @counts;
    });
}
same('read to an offset', sub {
    my ($fh) = @_;
    my $data = 'abcdef';
    my @values;
    for my $offset (3, 0, 10, -2, 4) { push @values, scalar(read $fh, $data, 5, $offset), "$data" }
    my $none;
    push @values, scalar(read $fh, $data, 0, 2), $data, scalar(read $fh, $none, 0), $none;
    return @values;
});
same('read into what is there', sub {
    my ($fh) = @_;
    my %in;
    my $wide = "\x{100}\x{e9}";
    my @values = (scalar(read $fh, $in{some}[3], 4), $in{some}[3]);
    for my $offset (2, 0) { push @values, scalar(read $fh, $wide, 2, $offset), "$wide" }
    return @values;
});
same('wrong numbers', sub {
    my ($fh) = @_;
    my $data = 'abc';
    my @values;
    for ([-1, 0], [1, -4]) {
        my ($length, $offset) = @$_;
        eval { read $fh, $data, $length, $offset };
        push @values, $@ =~ /^((?:Negative length|Offset outside string) at \S+ line \d+)/;
    }
    return @values, $data;
});
same('sysread to the end', sub {
    my ($fh) = @_;
    my $all = '';
    1 while sysread $fh, $all, 5000, length $all;
    return $all, scalar sysread $fh, my $none, 10;
});
same('getc', sub { my ($fh) = @_; return map { scalar getc $fh } 1 .. 7 });
same('ungetc', sub {
    my ($fh) = @_;
    my $byte = getc $fh;
    $fh->ungetc(ord $byte) if defined $byte;
    $fh->ungetc(ord 'X');
    return $byte, scalar <$fh>, scalar <$fh>, scalar getc $fh;
});
same('eof loses nothing', sub {
    my ($fh) = @_;
    my @values;
    push @values, eof $fh ? 1 : 0, eof($fh) ? 1 : 0, $fh->eof ? 1 : 0, scalar getc $fh for 1 .. 6;
    local $/;
    return @values, scalar <$fh>;
});
same('a mixture', sub {
    my ($fh) = @_;
    my $line = <$fh>;
    read $fh, my $some, 3;
    my ($byte, $next) = (getc $fh, scalar <$fh>);
    my @rest = do { local $/ = \4096; <$fh> };
    return $line, $some, $byte, $next, digested(@rest), $.;
});
same('$_, $. and $, are the program\'s', sub {
    my ($fh) = @_;
    local $_ = 'kept';
    { local $_; 1 while <$fh> }
    return $_, $.;
});
same('which handle it is', sub {
    my ($fh) = @_;
    return map { $_ ? 1 : 0 } $fh->opened, defined fileno $fh, binmode($fh), binmode($fh, ':raw'), $fh->error;
});

subtest 'no descriptor, no position, no layers' => sub {
    my $fh = reader('text');
    isa_ok $fh, 'IO::Handle';
    is fileno $fh, -1, 'fileno';
    is tell $fh, -1, 'tell';
    ok !seek($fh, 0, 0), 'seek';
    ok !$fh->seek(0, 0) && $!{ESPIPE}, '... as a method';
    is $fh->tell, -1, 'and so tell';
    ok !binmode($fh, $_), "binmode $_" for ':utf8', ':encoding(UTF-8)', ':crlf';
    is scalar(<$fh>), "\n", 'it is as it was';
    ok $fh->close, 'close';
    ok !$fh->opened, 'not opened any more';
    is fileno $fh, undef, 'fileno';
    ok !close $fh, 'close again';
    ok $!{EBADF}, 'has nothing to close';
    is_deeply [warnings_of(sub { is read($fh, my $data, 10), undef, 'nor read to read' })],
        [sprintf "read() on closed filehandle %s at %s line %d.\n", *$fh{NAME}, __FILE__, __LINE__ - 1], 'which Perl says';
};

subtest 'two handles at a time' => sub {
    my @fh = map { reader('lines') } 1, 2;
    my @lines = map { my $fh = $_; scalar <$fh> } @fh, @fh;
    is_deeply \@lines, ["one\n", "one\n", "two\n", "two\n"], 'each has its own place';
    is scalar(readline $fh[0]), "three\n", 'and $.';
    is $., 3, 'of the one that was read last';
};

# --- writing

my $target = $daemon->volume('target', 1 << 20);
my @writes = (
    ['print' => sub { my ($fh) = @_; print {$fh} 'a', 'b', 1.5, '' }],
    ['print with $, and $\\' => sub { my ($fh) = @_; local ($,, $\) = ('-', "!\n"); print {$fh} 'a', 'b', 1.5 }],
    ['print of nothing' => sub { my ($fh) = @_; print {$fh} '' }],
    ['print of $_' => sub { my ($fh) = @_; local $_ = 'topic'; print {$fh} $_ }],
    ['say' => sub { my ($fh) = @_; use feature 'say'; say {$fh} 'a', 'b' }],
    ['printf' => sub { my ($fh) = @_; local $\ = 'no'; printf {$fh} '%03d|%s|%%', 7, 'x' }],
    ['IO::Handle' => sub { my ($fh) = @_; $fh->print('p'), $fh->say('s'), $fh->printf('%d', 9), $fh->write('abcdef', 2, 1) }],
    ['syswrite' => sub { my ($fh) = @_; syswrite $fh, 'abcdef' }],
    ['syswrite of a part' => sub { my ($fh) = @_; map { syswrite $fh, 'abcdef', @$_ } [2], [2, 1], [9, 4], [1, -3], [0], [3, 6] }],
    ['syswrite of undef' => sub { my ($fh) = @_; no warnings 'uninitialized'; syswrite $fh, undef }],
    ['syswrite of what is tied' => sub {
        my ($fh) = @_;
        tie my $data, 'Made', 'abcdef';
        tie my $length, 'Made', 3;
        tie my $offset, 'Made', 2;
        return syswrite($fh, $data), syswrite($fh, $data, 5), syswrite($fh, 'abcdef', $length), syswrite($fh, 'abcdef', 2, $offset);
    }],
    ['syswrite outside' => sub {
        my ($fh) = @_;
        map { my $by = $_; eval { syswrite $fh, 'abc', @$by }; $@ =~ /^(\w+ [^.]* at \S+ line \d+)/ } [1, 4], [1, -4], [-1];
    }],
    ['much' => sub { my ($fh) = @_; print {$fh} $content{bytes} }],
    ['much by syswrite' => sub { my ($fh) = @_; syswrite $fh, $content{bytes} }],
    ['the utf8 flag' => sub { my ($fh) = @_; my $text = "caf\x{e9}"; utf8::upgrade($text); print {$fh} $text }],
    ['the selected handle' => sub { my ($fh) = @_; my $was = select $fh; $| = 1; my $done = print 'sel'; select $was; $done }],
    ['autoflush, flush' => sub { my ($fh) = @_; $fh->autoflush(1); print {$fh} 'x'; $fh->flush ? 1 : 0 }],
    ['a format' => sub { my ($fh) = @_; format_to($fh) }],
);
for my $write (@writes) {
    my ($name, $code) = @$write;
    open my $file, '+>:raw', "$scratch/out" or die "out: $!";
    my @want = $code->($file);
    close $file;
    my $want = slurp("$scratch/out");
    spew($daemon->pool_dir . '/target', "\xff" x (1 << 20));
    my $fh = writer($target);
    is_deeply [$code->($fh)], \@want, "$name: what it returns";
    ok close $fh, '... close';
    is sha(substr slurp($daemon->pool_dir . '/target'), 0, 1 + length $want), sha("$want\xff"), '... what was sent';
}

sub format_to {
    my ($fh) = @_;
    our @row = qw(left right);
    format ROW =
@<<<<<< @>>>>>>
@row
.
    my $was = select $fh;
    local $~ = 'ROW';
    $~ = 'ROW';
    my $done = write;
    select $was;
    return $done;
}

subtest 'wide characters' => sub {
    my $fh = writer($target);
    my %wide = (
        print => sub { print {$fh} "a\x{100}" }, printf => sub { printf {$fh} '%s', "\x{100}" },
        syswrite => sub { syswrite $fh, "\x{100}" },
    );
    for my $name (sort keys %wide) {
        like error_of($wide{$name}), qr/^Wide character in $name at \Q${\ __FILE__} line\E/, $name;
    }
    ok print({$fh} 'fine'), 'it is as it was';
    ok close $fh, 'close';
};

done_testing;
