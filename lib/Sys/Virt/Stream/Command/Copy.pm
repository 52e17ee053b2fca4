package Sys::Virt::Stream::Command::Copy;

# virt-stream copy: a volume into another one, with no file in between.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Sys::Virt::Stream::Command::Compare qw(stream_reader);
use Sys::Virt::Stream::Command::Failure qw(trying);
use Sys::Virt::Stream::Command::Image ();
use Sys::Virt::Stream::Command::Objects qw(connection volume);
use Sys::Virt::Stream::Command::Report qw(check);
use Sys::Virt::Stream::Command::Sending qw(send_to);
use Sys::Virt::Stream::Command::Volume qw(opened length_of digest_of);

sub run {
    my ($class, $run, $from, $to) = @_;
    check($run);
    my $uri = $run->option('connect');
    my $self = bless { run => $run, name => $from, uri => $run->option('from') // $uri }, $class;
    return send_to($run, 'copy', $self, $run->option('to') // $uri, $to);
}

# A connection of its own: what one receives while it sends is kept in memory.
sub begin {
    my ($self) = @_;
    $self->{conn} = connection($self->{uri});
    $self->{volume} = volume($self->{conn}, $self->{name}, pool => $self->{run}->option('pool'));
    my $length = length_of($self->{volume}) // die "how long $self->{name} is is not known\n";
    die "$self->{name} has changed meanwhile\n" if $length != ($self->{length} //= $length);
    return;
}

sub name   { return $_[0]{name} }
sub length { return $_[0]{length} }

sub image {
    my ($self) = @_;
    my $head = '';
    if ($self->{length}) {
        my ($st) = $self->_opened(0, 32, 0);
        trying("cannot read $self->{name}", sub { $st->recv_all(sub { $head .= $_[1]; $_[2] }); $st->finish });
    }
    return Sys::Virt::Stream::Command::Image::image($head, $self->{length});
}

sub reader {
    my ($self, $at, $length) = @_;
    return stream_reader($self->_opened($at, $length));
}

sub move {
    my ($self, $st, $at, %options) = @_;
    my ($from) = $self->_opened($at, $self->{length} - $at);
    return $st->send_file($from, %options);
}

sub digest {
    my ($self) = @_;
    return digest_of(@$self{qw(conn volume)}, 0, $self->{length});
}

sub _opened {
    my ($self, $at, $length, $sparse) = @_;
    return opened(@$self{qw(conn volume)}, 'download', $at, $length, $sparse);
}

1;
